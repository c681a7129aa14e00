"""Which image each stage runs in."""

REGISTRY = "localhost/synthio"
TAG = "dev"


def image(target: str) -> str:
    """The image of a Dockerfile target, for example `align-t2a`."""
    return f"{REGISTRY}/{target}:{TAG}"
