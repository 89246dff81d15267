package leases

import (
	"context"
	"sync"
	"time"
)

const (
	minPause = 2 * time.Millisecond
	maxPause = 10 * time.Millisecond
)

// wait is one call of Wait. It is the poll's until it is done, also when its caller has given up: what it waited for in
// vain is dead for the next one too.
type wait struct {
	seq     int64
	began   time.Duration
	counted time.Duration // when Postgres first said that seq is committed; 0 is not yet
	done    chan struct{}
}

// waits are the calls of Wait that are under way. They share one poll.
type waits struct {
	mu      sync.Mutex
	open    map[*wait]struct{}
	polling bool
}

// Wait is called after the commit of what TakeTx counted. When it returns nil, nothing that starts later is answered from
// memory by what was true before, on any replica. That takes as long as replicas take to acknowledge, or, if one does
// not, until its lease is over: a little longer than LeaseTime. It does not depend on Postgres being reachable. Its
// error is that of ctx and says that this was not confirmed yet.
func (h *Holder) Wait(ctx context.Context, seq int64) error {
	w := &wait{seq: seq, began: h.now(), done: make(chan struct{})}
	if h.waits.join(w) {
		go h.poll()
	}
	limit := time.NewTimer(h.waitLimit())
	defer limit.Stop()
	select {
	case <-w.done:
		return nil
	case <-limit.C: // Postgres hangs, but every lease from before the commit is over
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leasesEnd is after how long a wait has outlived every lease that was granted before it. The sixteenth is for clocks
// that run at different speeds.
func (h *Holder) leasesEnd() time.Duration { return h.cfg.LeaseTime + h.cfg.LeaseTime/16 }

// waitLimit is after how long a wait gives up on Postgres. It leaves time to delete the rows of who was silent.
func (h *Holder) waitLimit() time.Duration { return h.cfg.LeaseTime + h.cfg.LeaseTime/4 }

// poll looks at what replicas have acknowledged as long as anybody waits. Acknowledgements are not announced by NOTIFY
// because that takes a lock that is held while a commit is written to disk: they would wait for other invalidations.
func (h *Holder) poll() {
	for {
		open := h.waits.snapshot()
		if len(open) == 0 {
			return
		}
		h.settle(open)
		youngest := open[0].began
		for _, w := range open {
			youngest = max(youngest, w.began)
		}
		time.Sleep(min(max((h.now()-youngest)/4, minPause), maxPause))
	}
}

// settle ends the waits that are over. They must all have begun before: what was read for one is no answer to another
// that began since.
func (h *Holder) settle(open []*wait) {
	// Not the context of any one wait: the answer is for all of them.
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.LeaseTime/2)
	defer cancel()
	least, counted, err := progress(ctx, h.cfg.Pool)
	if err != nil {
		h.cfg.Logger.Debug("poll acknowledgements", "error", err)
		least, counted = 0, 0
	}
	now := h.now()
	var over []*wait
	var silent int64
	for _, w := range open {
		if w.counted == 0 && w.seq <= counted {
			w.counted = now
		}
		switch {
		case w.seq <= least, now-w.began >= h.waitLimit():
			over = append(over, w)
		case err == nil && w.counted > 0 && now-w.counted >= h.leasesEnd():
			over, silent = append(over, w), max(silent, w.seq)
		}
	}
	if silent > 0 {
		h.bury(ctx, silent)
	}
	h.waits.finish(over)
}

// bury deletes the replicas that have not acknowledged seq, so that one that died costs one wait, not each. It is called
// when all leases from before seq's commit are over. If it fails, the next wait does it.
func (h *Holder) bury(ctx context.Context, seq int64) {
	ids, err := deleteSilent(ctx, h.cfg.Pool, seq)
	if err != nil {
		h.cfg.Logger.Warn("delete silent replicas", "error", err)
	}
	for _, id := range ids {
		h.cfg.Logger.Warn("a replica did not acknowledge in time and is taken for dead", "replica", id, "invalidation", seq)
	}
}

// join reports whether a poll has to be started.
func (w *waits) join(one *wait) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[one] = struct{}{}
	start := !w.polling
	w.polling = true
	return start
}

func (w *waits) finish(over []*wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range over {
		delete(w.open, one)
		close(one.done)
	}
}

// snapshot returns the waits under way. If there are none the poll is over.
func (w *waits) snapshot() []*wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polling = len(w.open) > 0
	open := make([]*wait, 0, len(w.open))
	for one := range w.open {
		open = append(open, one)
	}
	return open
}
