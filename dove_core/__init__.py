"""dove: find remote-sensing pictures with words."""
