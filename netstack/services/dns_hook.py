"""A function of the program's that answers DNS queries."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from netstack.errors import ConfigError
from netstack.services.dns import ANSWERED, answer, failure, question
from netstack.services.dns_table import DnsTable
from netstack.wire.dns_data import TYPE_NAMES

__all__ = ["Hook"]

STREAM = 0  # max_udp of answer(): what the client takes over UDP is the engine's to see


class Hook:
    """Asks a function, and makes a reply of what it returns. For one event loop.

    Args:
        function: called with name and type; a plain function in a thread of its own.
        timeout: seconds.
    """

    declines = True  #: None from :meth:`ask` is no fault of its own

    def __init__(self, function: Callable[..., Any], timeout: float) -> None:
        self._function = function
        self._timeout = timeout

    async def ask(self, query: bytes) -> bytes | None:
        """The reply; None where the question is left to others."""
        asked = question(query)
        if asked is None:
            return None
        name, kind = asked
        try:
            values = await asyncio.wait_for(
                self._call(name, TYPE_NAMES.get(kind, f"TYPE{kind}")), self._timeout
            )
            if values is None:
                return None
            if isinstance(values, (list, set, frozenset)):
                values = list(values)
            elif not isinstance(values, tuple) or (len(values) == 2 and isinstance(values[0], (str, int))):
                values = [values]
            return _reply(query, name, values)
        except LookupError:
            return _reply(query, name, None)
        except (asyncio.TimeoutError, TimeoutError):
            logging.getLogger("netstack").warning("the DNS hook for %s has not answered in time", name)
        except ConfigError as err:
            logging.getLogger("netstack").warning(
                "what the DNS hook says for %s cannot be used: %s", name, err
            )
        except Exception:
            logging.getLogger("netstack").exception("the DNS hook has failed for %s", name)
        return failure(query)

    async def _call(self, name: str, kind: str) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(name, kind)
        found = await asyncio.get_running_loop().run_in_executor(None, self._function, name, kind)
        return await found if inspect.isawaitable(found) else found


def _reply(query: bytes, name: str, values: list[Any] | None) -> bytes | None:
    """The reply of a table with this one name; None: the name does not exist."""
    # the name is its own zone, so that every type is answered; one that does not exist is below a zone
    table = DnsTable({name: values}, zones=[name]) if values is not None else DnsTable(zones=[_parent(name)])
    verdict, reply = answer(table, query, STREAM)
    return reply if verdict == ANSWERED else None


def _parent(name: str) -> str:
    return name.partition(".")[2] or "."
