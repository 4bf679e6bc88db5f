"""Dictionary versions of array transforms (``Food`` of ``Foo``), with the array transform's own arguments."""

from collections.abc import Callable, Hashable, Mapping
from inspect import Parameter, Signature, signature
from typing import Any, Self

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, SaveImaged


class DictTransform(MapTransform):
    """Apply an array transform to the item under each key.

    A subclass names the array transform as ``array``. Its constructor then takes ``keys``, the arguments of the array
    transform and ``allow_missing_keys``, and so says ``inspect.signature``. If it needs further arguments, it takes
    them in :meth:`prepare`: required ones come after ``keys``, others before ``allow_missing_keys``.

    Args:
        keys: items to transform.
        args: arguments of the array transform.
        kwargs: arguments of the array transform, and ``allow_missing_keys`` to skip keys that a case does not have.

    Raises:
        TypeError: an argument is missing or unknown.

    Example:
        >>> from monai.transforms import ScaleIntensity
        >>> class Scaled(DictTransform, array=ScaleIntensity): ...
        >>> Scaled("image", maxv=4.0)({"image": np.array([0.0, 0.5, 1.0])})["image"].tolist()
        [0.0, 2.0, 4.0]
        >>> list(signature(Scaled).parameters)
        ['keys', 'minv', 'maxv', 'factor', 'channel_wise', 'dtype', 'allow_missing_keys']
        >>> Scaled("image", max=4.0)
        Traceback (most recent call last):
        ...
        TypeError: Scaled: got an unexpected keyword argument 'max'
    """

    transform: Any

    def __init_subclass__(cls, array: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        """Give the subclass a constructor with the arguments of ``array``."""
        super().__init_subclass__(**kwargs)
        if array is not None:
            cls.__init__ = _make_init(cls, array)  # type: ignore[method-assign]

    def __init__(self, keys: KeysCollection, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"{type(self).__name__} names no array transform: class {type(self).__name__}(..., array=Foo)")

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments that only the dictionary version has; keys are known, the array transform is not."""

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Transform one item in place of the old one."""
        data[key] = self.transform(data[key])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the case in which the item under each key is transformed."""
        result = dict(data)
        for key in self.key_iterator(result):
            self.apply(result, key)
        return result


class SaverDictTransform(DictTransform, SaveImaged):
    """Write the item under each key to files with an array transform; the data stay as they are.

    Clients that take the prediction from the data leave out such transforms: MONAI Label knows them as instances of
    MONAI's ``SaveImaged``, MONAI Deploy by a class name with ``SaveImage``, so subclasses have such names.
    """

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Write one item."""
        self.transform(data[key])

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: the options are for MONAI's writers, which are not used.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} has no options of MONAI's writers; give its own arguments instead")


class RandDictTransform(RandomizableTransform, DictTransform):
    """Apply a random array transform to the item under each key, with one draw for all keys.

    The array transform has MONAI's ``randomize(data)``, which gets the number of channels of the first item, and
    ``__call__(image, randomize)``.
    """

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Let every case be transformed: the array transform draws with its own probability."""
        RandomizableTransform.__init__(self, 1.0)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Apply the draw to one item."""
        data[key] = self.transform(data[key], randomize=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the case in which one draw is applied to the item under each key."""
        self.transform.randomize(next((data[key].shape[0] for key in self.key_iterator(dict(data))), 0))
        return super().__call__(data)


def _make_init(cls: type[DictTransform], array: Callable[..., Any]) -> Callable[..., None]:
    """Return the constructor of a dictionary version."""
    own = [p for p in signature(cls.prepare).parameters.values() if p.kind is Parameter.POSITIONAL_OR_KEYWORD][1:]
    names = list(signature(array).parameters)
    parameters = [
        Parameter("self", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("keys", Parameter.POSITIONAL_OR_KEYWORD, annotation="KeysCollection"),
        *(parameter for parameter in own if parameter.default is Parameter.empty),
        *signature(array).parameters.values(),
        *(parameter for parameter in own if parameter.default is not Parameter.empty),
        Parameter("allow_missing_keys", Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation="bool"),
    ]
    # The sort is stable: it only moves keyword-only arguments to the end.
    accepted = Signature(sorted(parameters, key=lambda parameter: parameter.kind), return_annotation=None)

    def init(self: DictTransform, *args: Any, **kwargs: Any) -> None:
        try:
            given = accepted.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        MapTransform.__init__(self, given["keys"], given.get("allow_missing_keys", False))
        self.prepare(**{parameter.name: given[parameter.name] for parameter in own if parameter.name in given})
        self.transform = array(**{name: given[name] for name in names if name in given})

    init.__name__, init.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    init.__signature__ = accepted  # type: ignore[attr-defined]
    return init
