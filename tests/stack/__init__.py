"""The whole product on the stack that is installed: `make test-jax`."""
