package stripesim

import "time"

// Now is the simulated time: that of Config.Now and all that Advance added.
func (s *Sim) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock()
}

// Advance moves the simulated time by the given steps, by none at all if there
// are none, and does what has become due: each thing at its own moment and in
// the order of these. Others see all of it or nothing. Requests and Run do what
// Config.Now makes due by themselves; a test that moves its clock may ask for it.
func (s *Sim) Advance(steps ...time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, skew := len(s.events.items), s.skew
	for _, d := range steps {
		s.skew += max(0, d)
	}
	s.tick()
	// Whatever the clock does is an event. Run asks every second, and without one
	// there is no need to look through the state for something to save.
	if len(s.events.items) > before || s.skew != skew {
		_ = s.save() // it logs a failure, and the next save tries again
	}
}

func (s *Sim) clock() time.Time { return s.now().Add(s.skew).UTC() }

// tick does what is due and returns the time. A clock that jumped by months has
// made many things due, and Stripe would have done each when its time came.
func (s *Sim) tick() time.Time {
	now := s.clock()
	for {
		at, do := s.nextDue()
		if do == nil || at.After(now) {
			break
		}
		if at.After(s.instant) { // what came late does not turn the time back
			s.instant = at
		}
		do()
	}
	s.instant = now
	return now
}

// nextDue finds what is to happen first, which may lie in the future.
func (s *Sim) nextDue() (at time.Time, do func()) {
	first := func(t time.Time) bool { return !t.IsZero() && (do == nil || t.Before(at)) }
	for _, cs := range s.sessions.items {
		if t := cs.due(); first(t) {
			at, do = t, func() { s.expireSession(cause{}, cs) }
		}
	}
	for _, inv := range s.invoices.items {
		if t := inv.due(); first(t) {
			at, do = t, func() { s.advanceInvoice(inv) }
		}
	}
	for _, sub := range s.subscriptions.items {
		if t := sub.due(); first(t) {
			at, do = t, func() { s.advanceSubscription(sub) }
		}
	}
	return at, do
}

// addMonths is the n-th monthly anniversary of t in UTC. A day the month does
// not have becomes its last day, always counted from t, so that 31 January is
// followed by 28 February and then by 31 March.
func addMonths(t time.Time, n int) time.Time {
	t = t.UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// unixOrNull shows an instant that has not happened as null.
func unixOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}
