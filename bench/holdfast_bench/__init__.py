"""What bench/compare is made of; the modules name their question. Standard library only."""
