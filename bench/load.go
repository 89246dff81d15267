package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// request makes the n-th request of a load, as it goes over the wire.
type request func(n int) []byte

// post returns the bytes of a POST.
func post(path, token, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		path, token, len(body), body)
}

// conn is an HTTP/1.1 connection that costs the generator little: it shares the cores with what it measures.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends a request and reads its answer, whose body is good until the next call.
func (c *conn) do(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, errors.New("no status line")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, err
	}
	length := -1 // in chunks
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, err
			}
		}
	}
	if status == 204 {
		return status, nil, nil
	}
	if length < 0 {
		body, err = io.ReadAll(httputil.NewChunkedReader(c.r))
		if err == nil {
			_, err = c.r.Discard(2) // the line that ends the trailer
		}
		return status, body, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(c.r, body)
	return status, body, err
}

// result is what a load measured.
type result struct {
	rate   float64 // answers a second
	failed int64   // answers that were not 2xx
	p50    time.Duration
	p95    time.Duration
	p99    time.Duration
}

// closed sends as fast as the answers come, on so many connections, for a time. check may be nil.
func closed(ctx context.Context, addr string, connections int, d time.Duration, of request, check func(body []byte) bool) (result, error) {
	var counter, done, failed atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, connections)
	deadline := time.Now().Add(d)
	start := time.Now()
	for range connections {
		group.Go(func() {
			c, err := dial(ctx, addr)
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = c.Close() }()
			for time.Now().Before(deadline) {
				status, body, err := c.do(of(int(counter.Add(1) - 1)))
				if err != nil {
					errs <- err
					return
				}
				done.Add(1)
				if status/100 != 2 || check != nil && !check(body) {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	close(errs)
	return result{rate: float64(done.Load()) / took.Seconds(), failed: failed.Load()}, <-errs
}

// open sends at a constant rate whatever the answers do, and measures each from the moment it was due: a stall is not
// hidden by the requests that it holds up.
func open(ctx context.Context, addr string, perSecond int, d time.Duration, of request) (result, error) {
	total := int(float64(perSecond) * d.Seconds())
	latencies := make([]time.Duration, total)
	idle := make(chan *conn, total)
	var group sync.WaitGroup
	var failed atomic.Int64
	errs := make(chan error, total)
	start := time.Now()
	for n := range total {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		group.Go(func() {
			var c *conn
			select {
			case c = <-idle:
			default:
				var err error
				if c, err = dial(ctx, addr); err != nil {
					errs <- err
					return
				}
			}
			status, _, err := c.do(of(n))
			latencies[n] = time.Since(due)
			if err != nil {
				errs <- err
				return
			}
			if status/100 != 2 {
				failed.Add(1)
			}
			idle <- c
		})
	}
	group.Wait()
	took := time.Since(start)
	close(errs)
	close(idle)
	for c := range idle {
		_ = c.Close()
	}
	slices.Sort(latencies)
	return result{
		rate: float64(total) / took.Seconds(), failed: failed.Load(),
		p50: latencies[total/2], p95: latencies[total*95/100], p99: latencies[total*99/100],
	}, <-errs
}
