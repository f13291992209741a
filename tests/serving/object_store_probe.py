"""Put more into Ray's object store than it holds, and print the folders with the rest.

python -m tests.serving.object_store_probe
"""

from pathlib import Path

from pipelines.serve import prepare_environment

prepare_environment()
BODY = 20 * 2**20


def main() -> None:
    import numpy as np
    import ray

    ray.init("local", object_store_memory=4 * BODY, include_dashboard=False, log_to_driver=False)
    kept = [ray.put(np.full(BODY, number, np.uint8)) for number in range(12)]
    assert all(ray.get(one)[0] == number for number, one in enumerate(kept))
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    name = f"ray_spilled_objects_{ray.get_runtime_context().get_node_id()}"  # another Ray may run here
    print(*[place / name for place in (session, Path("/dev/shm")) if any((place / name).glob("*"))])
    ray.shutdown()


if __name__ == "__main__":
    main()
