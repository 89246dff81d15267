package keys

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxGroup is how many callers' wishes one query carries, groupTimeout how long it may take.
	maxGroup     = 500
	groupTimeout = 5 * time.Second
)

// group turns what concurrent callers want into few queries. Nobody waits for company: what comes while queries run goes
// into the next. There is no goroutine of its own: one of the callers leads.
type group[In, Out any] struct {
	parallel int // queries that run at once
	query    func(ctx context.Context, wishes []In) ([]Out, error)

	mu      sync.Mutex
	running int
	waiting []*wish[In, Out]
}

type wish[In, Out any] struct {
	in   In
	lead chan struct{}
	done chan granted[Out]
}

type granted[Out any] struct {
	out Out
	err error
}

// do returns what the query answers to in.
func (g *group[In, Out]) do(ctx context.Context, in In) (Out, error) {
	own := &wish[In, Out]{in: in, lead: make(chan struct{}, 1), done: make(chan granted[Out], 1)}
	if !g.join(own) {
		g.run(ctx, own)
	}
	for {
		select {
		case r := <-own.done:
			return r.out, r.err
		case <-own.lead:
			g.run(ctx, own)
		case <-ctx.Done():
			if g.leave(own) {
				var none Out
				return none, ctx.Err()
			}
			// It is in a query already, or is to lead: either comes at once or within the query's time.
			select {
			case r := <-own.done:
				return r.out, r.err
			case <-own.lead:
				g.run(context.WithoutCancel(ctx), own)
			}
		}
	}
}

// join reports whether own waits for another to lead; if not, it leads.
func (g *group[In, Out]) join(own *wish[In, Out]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running < g.parallel {
		g.running++
		return false
	}
	g.waiting = append(g.waiting, own)
	return true
}

func (g *group[In, Out]) leave(own *wish[In, Out]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, own)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// run asks for own and for all who wait, and hands the lead on.
func (g *group[In, Out]) run(ctx context.Context, own *wish[In, Out]) {
	batch := append([]*wish[In, Out]{own}, g.take(maxGroup-1)...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupTimeout) // it is for the others too
	defer cancel()
	wishes := make([]In, len(batch))
	for i, each := range batch {
		wishes[i] = each.in
	}
	outs, err := g.query(ctx, wishes)
	for i, each := range batch {
		result := granted[Out]{err: err}
		if err == nil {
			result.out = outs[i]
		}
		each.done <- result
	}
	g.handOn()
}

func (g *group[In, Out]) take(n int) []*wish[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n = min(n, len(g.waiting))
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return taken
}

func (g *group[In, Out]) handOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.running--
		return
	}
	g.waiting[0].lead <- struct{}{}
	g.waiting = slices.Delete(g.waiting, 0, 1)
}
