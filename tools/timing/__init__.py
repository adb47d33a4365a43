"""How long things take: grouping, scoring, compiled models, and what was predicted or asked for beside what is had."""
