"""What a dataset holds, and the recall that choices made before training allow."""
