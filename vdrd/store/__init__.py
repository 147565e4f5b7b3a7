"""Storages: packs, index, points, sessions, verification, collection."""

from vdrd.model.storage import Encryption, KeyMaterial, StorageInfo
from vdrd.store.collect import CollectReport
from vdrd.store.reader import ChunkReader
from vdrd.store.session import WriteSession
from vdrd.store.storage import Storage
from vdrd.store.verify import Damage, VerifyReport

__all__ = [
    "ChunkReader",
    "CollectReport",
    "Damage",
    "Encryption",
    "KeyMaterial",
    "Storage",
    "StorageInfo",
    "VerifyReport",
    "WriteSession",
]
