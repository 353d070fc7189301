"""Takes benches out of placement that give the lab's errors too often."""
