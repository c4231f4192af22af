dnl One line a plugin; its folder, its name, and shared (the default), static or no.
