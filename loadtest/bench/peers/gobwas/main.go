// Peer: gobwas/ws on epoll, one goroutine for all connections, a ping each 25 s: the floor of any language.
// Prints `ready PORT`. A message is expected whole in one read, which a real server could not assume.
package main

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

const period = 25

type connection struct {
	upgraded bool
	alive    bool
	second   uint8
}

// plain reads and writes a file that does not block.
type plain int

func (fd plain) Read(p []byte) (int, error)  { return syscall.Read(int(fd), p) }
func (fd plain) Write(p []byte) (int, error) { return syscall.Write(int(fd), p) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	file, err := listener.(*net.TCPListener).File()
	must(err)
	accepting := int(file.Fd())
	must(syscall.SetNonblock(accepting, true))
	poll, err := syscall.EpollCreate1(0)
	must(err)
	watch := func(fd int) {
		must(syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
	}
	watch(accepting)
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)

	connections := map[int]*connection{}
	end := func(fd int) {
		delete(connections, fd)
		syscall.Close(fd)
	}
	buffer := make([]byte, 65536)
	ping := ws.MustCompileFrame(ws.NewPingFrame(nil))
	events := make([]syscall.EpollEvent, 1024)
	turn := time.Now().Add(time.Second)
	second := uint8(0)
	for {
		wait := int(time.Until(turn).Milliseconds())
		if wait < 0 {
			wait = 0
		}
		count, err := syscall.EpollWait(poll, events, wait)
		if err != nil && err != syscall.EINTR {
			panic(err)
		}
		for _, event := range events[:max(count, 0)] {
			fd := int(event.Fd)
			if fd == accepting {
				for {
					accepted, _, err := syscall.Accept4(accepting, syscall.SOCK_NONBLOCK)
					if err != nil {
						break
					}
					connections[accepted] = &connection{alive: true, second: uint8(accepted % period)}
					watch(accepted)
				}
				continue
			}
			held := connections[fd]
			if !held.upgraded {
				if _, err := (ws.Upgrader{}).Upgrade(plain(fd)); err != nil {
					end(fd)
					continue
				}
				held.upgraded = true
				continue
			}
			if !serve(fd, held, buffer) {
				end(fd)
			}
		}
		if !time.Now().Before(turn) {
			turn = turn.Add(time.Second)
			second = (second + 1) % period
			for fd, held := range connections {
				if held.second != second || !held.upgraded {
					continue
				}
				if !held.alive {
					end(fd)
					continue
				}
				held.alive = false
				syscall.Write(fd, ping)
			}
		}
	}
}

// serve answers the frames of one read; false ends the connection.
func serve(fd int, held *connection, buffer []byte) bool {
	count, err := syscall.Read(fd, buffer)
	if err != nil || count <= 0 {
		return false
	}
	data := buffer[:count]
	for len(data) >= 6 {
		opcode := ws.OpCode(data[0] & 0x0F)
		length, start := int(data[1]&0x7F), 6
		if length == 126 {
			length, start = int(data[2])<<8|int(data[3]), 8
		}
		if len(data) < start+length {
			return false
		}
		payload := data[start : start+length]
		ws.Cipher(payload, [4]byte(data[start-4:start]), 0)
		switch opcode {
		case ws.OpText:
			answer, _ := ws.CompileFrame(ws.NewTextFrame(payload))
			syscall.Write(fd, answer)
		case ws.OpPong:
			held.alive = true
		case ws.OpClose:
			answer, _ := ws.CompileFrame(ws.NewCloseFrame(payload))
			syscall.Write(fd, answer)
			return false
		}
		data = data[start+length:]
	}
	return true
}
