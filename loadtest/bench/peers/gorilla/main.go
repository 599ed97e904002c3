// Peer: gorilla/websocket, a goroutine a connection, a ping each 25 s. Prints `ready PORT`.
package main

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

const period = 25 * time.Second

var upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}

func echo(w http.ResponseWriter, r *http.Request) {
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	connection.SetReadLimit(131072)
	connection.SetReadDeadline(time.Now().Add(2 * period))
	connection.SetPongHandler(func(string) error { return connection.SetReadDeadline(time.Now().Add(2 * period)) })
	// WriteControl may be called beside other writes, so a timer is enough and no second goroutine waits.
	var timer *time.Timer
	timer = time.AfterFunc(period, func() {
		if connection.WriteControl(websocket.PingMessage, nil, time.Now().Add(5*time.Second)) == nil {
			timer.Reset(period)
		}
	})
	defer timer.Stop()
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		if connection.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	http.HandleFunc("/ws", echo)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, nil))
}
