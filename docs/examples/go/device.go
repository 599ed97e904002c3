// A whole device in one file: stores what it measures, sends it, carries out commands, and comes back as told.
//
//	cd docs/examples/go && HEIWA_TOKEN=… go run . ws://127.0.0.1:8080/ws [device:dog-1]
//
// With a channel it watches that, too, as an app does: then its token needs location:read.
// A real device writes what it stored to flash, so that it survives a restart.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

const (
	openTimeout = 10 * time.Second
	silence     = 30 * time.Second // an answer that is later than this does not come
	steady      = 10 * time.Second // a connection that lasted so long was a success
	maxObeyed   = time.Hour        // a longer wait is somebody's mistake
	maxInFlight = 1000
	capacity    = 10_000
	forever     = time.Duration(math.MaxInt64)
)

type event struct {
	ID   string  `json:"id"`
	Time int64   `json:"time"`
	Lat  float64 `json:"lat"`
	Lon  float64 `json:"lon"`

	sent      time.Time // zero: not on its way
	notBefore time.Time // a refused event may be sent again then
}

// What a message of the server says, as far as a device cares.
type message struct {
	Type             string   `json:"type"`
	IDs              []string `json:"ids"`
	Code             string   `json:"code"`
	Reason           string   `json:"reason"`
	Durability       string   `json:"durability"`
	MaxEvents        int      `json:"max_events"`
	ReconnectAfterMS float64  `json:"reconnect_after_ms"`
	RetryAfterMS     *float64 `json:"retry_after_ms"`

	ID       string          `json:"id"` // of a command
	Name     string          `json:"name"`
	Args     json.RawMessage `json:"args"`
	Channel  string          `json:"channel"`
	Data     json.RawMessage `json:"data"`
	Snapshot json.RawMessage `json:"snapshot"`
}

// Device is used by one goroutine; the others send to it through channels.
type Device struct {
	url      string
	channel  string // "": none is watched
	measured <-chan *event
	stored   []*event // oldest first: everything that is not acknowledged
}

// Asked before each connection: a real device fetches a new one when the old one was refused.
func token() string { return os.Getenv("HEIWA_TOKEN") }

// How long the server asks to wait: 0 for what is no time, an hour at most.
func asked(value float64, unit time.Duration) time.Duration {
	if !(value > 0) {
		return 0
	}
	return time.Duration(math.Min(value, float64(maxObeyed/unit)) * float64(unit))
}

// Retry-After in seconds: a date or nonsense counts as not given; of several the longest.
func retryAfter(header http.Header) (longest time.Duration) {
	for _, value := range header.Values("Retry-After") {
		if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
			longest = max(longest, asked(float64(seconds), time.Second))
		} else if number, ok := err.(*strconv.NumError); ok && number.Err == strconv.ErrRange {
			longest = maxObeyed
		}
	}
	return longest
}

// One position a second, whether there is a connection or not.
func measure(measured chan<- *event) {
	run := fmt.Sprintf("%x%08x", time.Now().UnixMilli(), rand.Uint32()) // an id is never used again
	for number := 0; ; number++ {
		id := fmt.Sprint(run, "-", number)
		measured <- &event{ID: id, Time: time.Now().UnixMilli(), Lat: 35.0116, Lon: 135.7681}
		time.Sleep(time.Second)
	}
}

func (d *Device) keep(e *event) {
	if len(d.stored) == capacity {
		d.stored = d.stored[1:]
	}
	d.stored = append(d.stored, e)
}

// What is stored, due and not on its way, as far as it fits into one message; nil: nothing.
func (d *Device) due(most int) []byte {
	now, flying := time.Now(), 0
	var events []*event
	for _, e := range d.stored {
		if !e.sent.IsZero() {
			flying++
		} else if len(events) < most && !e.notBefore.After(now) {
			events = append(events, e)
		}
	}
	if len(events) == 0 || flying+len(events) > maxInFlight {
		return nil
	}
	for _, e := range events {
		e.sent = now
	}
	payload, _ := json.Marshal(map[string]any{"type": "locations", "events": events})
	return payload
}

func (d *Device) unanswered() bool {
	for _, e := range d.stored {
		if !e.sent.IsZero() && time.Since(e.sent) > silence {
			return true
		}
	}
	return false
}

// ack: forget it. nack: send it again later, with the same id, or never.
func (d *Device) answered(m message) {
	named := map[string]bool{}
	for _, id := range m.IDs {
		named[id] = true
	}
	kept := d.stored[:0]
	for _, e := range d.stored {
		if named[e.ID] {
			if m.Type == "ack" || m.RetryAfterMS == nil {
				continue
			}
			e.sent, e.notBefore = time.Time{}, time.Now().Add(asked(*m.RetryAfterMS, time.Millisecond))
		}
		kept = append(kept, e)
	}
	d.stored = kept
	fmt.Println(m.Type, len(m.IDs), m.Durability+m.Code)
}

// The one result of a command; carried out twice, switch does no harm.
func carriedOut(m message) []byte {
	var args struct {
		On bool `json:"on"`
	}
	result := map[string]any{"type": "result", "command": m.ID, "ok": false}
	if m.Name == "switch" && json.Unmarshal(m.Args, &args) == nil {
		result["ok"], result["value"] = true, args
	} else {
		result["error"] = map[string]string{"code": "unknown_command", "message": "known is: switch"}
	}
	payload, _ := json.Marshal(result)
	return payload
}

// Until the connection ends; returns the time to stay away at least.
func (d *Device) converse(ctx context.Context, conn *websocket.Conn) time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	messages, failed := make(chan message), make(chan error, 1)
	go func() {
		for {
			var m message
			_, payload, err := conn.Read(ctx) // answers pings, too
			if err == nil {
				err = json.Unmarshal(payload, &m)
			}
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		for _, e := range d.stored {
			e.sent = time.Time{} // not answered: all of it is sent again
		}
	}()
	if d.channel != "" { // a snapshot comes with `subscribed`, and then each newer state as `event`
		payload, _ := json.Marshal(map[string]string{"type": "subscribe", "channel": d.channel})
		_ = conn.Write(ctx, websocket.MessageText, payload)
	}
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	most := 50 // one may send before `welcome`, which tells how much at once
	told, leaving := time.Duration(0), false
	for {
		select {
		case e := <-d.measured:
			d.keep(e)
		case <-ticks.C:
			if d.unanswered() {
				fmt.Println("no answer")
				return told
			}
			if payload := d.due(most); !leaving && payload != nil {
				// An error is told by the reader, too, after all that came before it.
				_ = conn.Write(ctx, websocket.MessageText, payload)
			}
		case m := <-messages:
			switch m.Type {
			case "welcome":
				fmt.Println("connected")
				most = max(1, m.MaxEvents)
			case "ack", "nack":
				d.answered(m)
			case "goaway": // answers to what is on its way still come; then the server closes
				leaving, told = true, asked(m.ReconnectAfterMS, time.Millisecond)
				if m.Reason == "replaced" {
					told = forever
				}
			case "command":
				_ = conn.Write(ctx, websocket.MessageText, carriedOut(m))
				fmt.Println("command", m.Name)
			case "subscribed", "event":
				fmt.Println(m.Channel, string(m.Data)+string(m.Snapshot))
			case "error":
				fmt.Println("the server says", m.Code)
			}
		case err := <-failed:
			fmt.Println("closed:", err)
			switch websocket.CloseStatus(err) {
			case 1008, 4409: // by policy; a newer connection of this device took over
				return forever
			}
			return told
		}
	}
}

// One connection, from the handshake to its end; returns the time to stay away at least, and how long it was open.
func (d *Device) connect() (told, lasted time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, d.url, &websocket.DialOptions{
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + token()}},
		Subprotocols: []string{"heiwa.v1.json"},
		// A redirect is a refusal: to follow it would be a try without a wait.
		HTTPClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		fmt.Println("no connection:", err)
		if response == nil {
			return 0, 0
		}
		return max(time.Second, retryAfter(response.Header)), 0
	}
	opened := time.Now()
	told = d.converse(context.Background(), conn)
	return told, time.Since(opened)
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: device ws://host:port/ws [channel]")
		os.Exit(2)
	}
	measured := make(chan *event, 100)
	go measure(measured)
	d := &Device{url: os.Args[1], measured: measured}
	if len(os.Args) == 3 {
		d.channel = os.Args[2]
	}
	for failures := 0; ; failures++ {
		told, lasted := d.connect()
		if told == forever {
			return
		}
		if lasted >= steady {
			failures = 0
		}
		// Full jitter, never without a wait: a fleet that lost its server together must not return together.
		ceiling := time.Duration(min(30, 1<<min(failures, 5))) * time.Second
		least := 100 * time.Millisecond
		wait := max(told, least+time.Duration(rand.Float64()*float64(ceiling-least)))
		fmt.Println("back in", wait.Round(time.Millisecond))
		for back := time.After(wait); back != nil; {
			select {
			case e := <-d.measured:
				d.keep(e)
			case <-back:
				back = nil
			}
		}
	}
}
