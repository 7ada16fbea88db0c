"""Pickles of plain data: an interpreter of the opcodes that Python's protocol 2 writes of it.

Python's own `pickle` imports whatever a file names, and calls it. Here a name is looked up in the
caller's table, and that is all that can be called; dicts, tuples, lists, strings and numbers are
made, of everything else the opcode or the name is refused. Each opcode is done once and makes one
object, so that a pickle takes time and memory in proportion to its length. What it makes may still
hold itself, or share its parts until it is endless to walk through: look at types, not deeper.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

PROTOCOL = 2
MAX_INTEGER_BITS = 80  # those of the longest that is in any file, a magic number

Function = Callable[[tuple[Any, ...]], Any]

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name(NamedTuple):
    """A class or a function that a pickle names, "module.name"."""

    name: str


def load(file: BinaryIO, functions: Mapping[str, Function | None], persistent: Function) -> Any:
    """The object of the pickle that a file stands at; then the file stands behind it.

    Parameters
    ----------
    file : binary file
        With readline().
    functions : mapping of str to function or None
        What a pickle may name, and what is called with its tuple of arguments; None: it may not be
        called.
    persistent : function
        Makes an object of the tuple that stands for one which is not in the pickle.

    Raises
    ------
    ValueError
        It is no such pickle, is cut short, or names something else.
    """
    machine = _Machine(functions, persistent)
    operations = pickletools.genops(file)
    while True:
        try:
            operation, argument, _ = next(operations)
        except ValueError as error:
            raise ValueError(f"not a sound pickle: {error}") from None
        if operation.name == "STOP":
            return machine.pop(1)[0]
        machine.run(operation.name, argument)


class _Machine:
    def __init__(self, functions: Mapping[str, Function | None], persistent: Function) -> None:
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack
        self.memo: dict[int, Any] = {}

    def pop(self, count: int) -> list[Any]:
        """The last objects, which must lie above the last mark."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("not a sound pickle: takes what is not there")
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("not a sound pickle: has no mark where one is needed")
        found = self.pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return found

    def top(self) -> Any:
        (found,) = self.pop(1)
        self.stack.append(found)
        return found

    def run(self, name: str, argument: Any) -> None:
        """One opcode."""
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            if type(argument) is int and argument.bit_length() > MAX_INTEGER_BITS:
                raise ValueError(f"holds an integer of {argument.bit_length()} bits")
            stack.append(argument)
        elif name in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError(f"not a sound pickle: has nothing under the number {argument}")
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            self.target(list, name).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
            self.set_items(self.target(dict, name), items)
        elif name == "BUILD":  # attributes of a dict, such as _metadata, which nobody needs
            self.pop(1)
            self.target(dict, name)
        elif name == "GLOBAL":
            self.named(argument.replace(" ", "."))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            stack.append(self.called(function, arguments))
        elif name == "BINPERSID":
            (identity,) = self.pop(1)
            stack.append(self.persistent(identity))
        elif name == "PROTO":
            if argument != PROTOCOL:
                raise ValueError(f"is a pickle of protocol {argument}, read is {PROTOCOL}")
        else:
            raise ValueError(f"holds the pickle's opcode {name}, which plain data do not need")

    def target(self, kind: type, name: str) -> Any:
        """The last object, which an opcode changes."""
        found = self.top()
        if type(found) is not kind:
            raise ValueError(f"does {name} to a {type(found).__name__}, expected a {kind.__name__}")
        return found

    @staticmethod
    def set_items(target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("not a sound pickle: has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # others may take for ever to hash
                raise ValueError(f"holds a {type(key).__name__} as a key, expected a string")
            target[key] = value

    def named(self, name: str) -> None:
        if name not in self.functions:
            raise ValueError(
                f"names {name:.80}: it holds code or objects of Python, which are not run or made"
                " here; read are tensors by name, such as torch.save(model.state_dict()) writes"
            )
        self.stack.append(Name(name))

    def called(self, function: Any, arguments: Any) -> Any:
        known = self.functions[function.name] if type(function) is Name else None
        if known is None or type(arguments) is not tuple:
            what = function.name if type(function) is Name else f"a {type(function).__name__}"
            raise ValueError(f"calls {what} with a {type(arguments).__name__}")
        return known(arguments)
