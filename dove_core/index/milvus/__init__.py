"""An index served by Milvus: pushed there, asked there, held to the local one."""
