// Peer: gorilla/websocket, a goroutine a connection, a ping each 25 s. Prints `ready PORT`.
//
// With `fanout` a message `publish N` goes out N times, with 200 bytes, to all connections as a prepared message; else
// messages come back.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const period = 25 * time.Second

var upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}

var echo = func(w http.ResponseWriter, r *http.Request) {
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

var (
	all  = map[*websocket.Conn]bool{}
	lock sync.Mutex
)

func publish(w http.ResponseWriter, r *http.Request) {
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	lock.Lock()
	all[connection] = true
	lock.Unlock()
	for {
		_, message, err := connection.ReadMessage()
		if err != nil {
			break
		}
		var events int
		fmt.Sscanf(string(message), "publish %d", &events)
		// The lock keeps writers of one connection apart, as gorilla asks for.
		lock.Lock()
		for range events {
			prepared, _ := websocket.NewPreparedMessage(websocket.TextMessage, []byte(strings.Repeat("x", 200)))
			for each := range all {
				each.WritePreparedMessage(prepared)
			}
		}
		lock.Unlock()
	}
	lock.Lock()
	delete(all, connection)
	lock.Unlock()
	connection.Close()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fanout" {
		echo = publish
	}
	http.HandleFunc("/ws", echo)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, nil))
}
