"""One counter that every tracked container bumps: while it stands, compiled functions need not look again."""

value = 0
