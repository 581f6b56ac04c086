"""From files, wherever they lie, to blocks of records that have been compared with their checksums."""
