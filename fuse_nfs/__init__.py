"""fuse_nfs."""
