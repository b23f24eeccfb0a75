"""Where rows come from: sources, validation, splits and a profile of what is there."""
