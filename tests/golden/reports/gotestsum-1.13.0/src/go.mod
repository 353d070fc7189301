module example.test/bus

go 1.21
