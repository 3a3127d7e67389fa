// Answers the Redis command INCR, whatever the key: each five lines are one request.
package main

import (
	"bufio"
	"fmt"
	"net"
	"sync/atomic"
)

var counter atomic.Uint64

func serve(connection net.Conn) {
	defer connection.Close()
	lines := bufio.NewScanner(connection)
	for count := 1; lines.Scan(); count++ {
		if count%5 == 0 {
			fmt.Fprintf(connection, ":%d\r\n", counter.Add(1))
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", ":6379")
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go serve(connection)
	}
}
