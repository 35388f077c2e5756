"""The built-in strategies, one room per family; they come in through the same entry points as anyone else's."""
