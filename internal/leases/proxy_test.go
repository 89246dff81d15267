package leases

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// direction through a proxy.
type direction int

const (
	up   direction = iota // to Postgres
	down                  // to the client
)

// proxy stands between a client and Postgres and can hold what goes through it, as a network does that lost its way.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	changed *sync.Cond
	held    [2]bool
	pipes   map[*pipe]struct{}
}

// pipe is one direction of one connection.
type pipe struct {
	direction direction
	from, to  net.Conn
	queue     [][]byte
	allowed   int // chunks of the queue that may pass although the direction is held
	closed    bool
}

// newProxy returns a proxy and the database URL that leads through it.
func newProxy(t *testing.T, databaseURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, target: u.Host, pipes: map[*pipe]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	var done sync.WaitGroup
	done.Go(func() { p.accept(&done) })
	t.Cleanup(func() {
		_ = listener.Close()
		p.hold(false, up, down)
		p.cut()
		done.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept(done *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		for _, one := range []*pipe{
			{direction: up, from: client, to: server},
			{direction: down, from: server, to: client},
		} {
			p.mu.Lock()
			p.pipes[one] = struct{}{}
			p.mu.Unlock()
			done.Go(func() { p.read(one) })
			done.Go(func() { p.write(one) })
		}
	}
}

func (p *proxy) read(one *pipe) {
	for {
		chunk := make([]byte, 32<<10)
		n, err := one.from.Read(chunk)
		p.mu.Lock()
		if n > 0 {
			one.queue = append(one.queue, chunk[:n])
		}
		one.closed = one.closed || err != nil
		p.changed.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *proxy) write(one *pipe) {
	for {
		chunk, err := p.next(one)
		if err == nil {
			_, err = one.to.Write(chunk)
		}
		if err != nil {
			_ = errors.Join(one.from.Close(), one.to.Close())
			p.mu.Lock()
			delete(p.pipes, one)
			p.mu.Unlock()
			return
		}
	}
}

// next waits for what may pass. The end of a connection is held as well.
func (p *proxy) next(one *pipe) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		free := !p.held[one.direction]
		switch {
		case len(one.queue) > 0 && (free || one.allowed > 0):
			chunk := one.queue[0]
			one.queue, one.allowed = one.queue[1:], max(0, one.allowed-1)
			return chunk, nil
		case one.closed && len(one.queue) == 0 && free:
			return nil, io.EOF
		}
		p.changed.Wait()
	}
}

// hold stops or frees directions. What was held comes through when it is freed.
func (p *proxy) hold(held bool, directions ...direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		p.held[d] = held
	}
	p.changed.Broadcast()
}

// holding returns how many chunks are held, and a function that lets exactly these through.
func (p *proxy) holding(d direction) (chunks int, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[*pipe]int{}
	for one := range p.pipes {
		if one.direction == d {
			counts[one] = len(one.queue)
			chunks += len(one.queue)
		}
	}
	return chunks, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for one, n := range counts {
			one.allowed = n
		}
		p.changed.Broadcast()
	}
}

// cut closes every connection at once.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for one := range p.pipes {
		_ = one.from.Close()
	}
}
