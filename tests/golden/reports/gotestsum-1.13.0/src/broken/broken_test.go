package broken

func no() { this does not compile }
