"""`cxr registry` on a registry of one test."""

from cxr_platform.registry.store import Registry
from pipelines.registry import main


def run(registry: Registry, *words: str) -> int:
    return main([*words, "--registry", str(registry.root)])
