module ottla/compat/harness

go 1.23
