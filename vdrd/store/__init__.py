"""Storages: packs, index, points, sessions, verification, collection."""

from vdrd.model.storage import Encryption, KeyMaterial, StorageInfo
from vdrd.store.reader import ChunkReader
from vdrd.store.session import WriteSession
from vdrd.store.storage import Storage

__all__ = ["ChunkReader", "Encryption", "KeyMaterial", "Storage", "StorageInfo", "WriteSession"]
