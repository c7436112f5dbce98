"""Files, folders, messages, console output and processes: what every package needs and no paper describes."""
