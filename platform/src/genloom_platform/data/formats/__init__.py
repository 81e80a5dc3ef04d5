"""Published formats, one file each; the contract is `genloom.formats`."""
