"""Which axes of a graph are the same axis: the layout algebra, the rules of the ops, and the groups that follow."""
