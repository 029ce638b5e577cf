import gc
from collections import Counter


def living(package: str) -> Counter[str]:
    """How many objects of each class of a package are alive, by the name of the class."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if str(kind.__module__).startswith(package))
