STATES: tuple[str, ...]
TRANSITIONS: tuple[tuple[str, str, str], ...]

def transition_allowed(source: str, target: str) -> bool: ...
