package leases

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is one registration, on one connection. One goroutine does all of it, so what a notification says has been
// forgotten before an acknowledgement of it can be sent.
type session struct {
	h    *Holder
	conn *pgx.Conn
	id   string // of its own: what an older connection still has under way must not touch our row

	inbox   []string // notifications that came and are not applied yet
	applied int64    // everything up to this number is forgotten
	acked   int64    // what we last told Postgres of it

	renewAt time.Duration
	behind  *renewal
}

// renewal is one that Postgres answered with a number that was not acknowledged yet.
type renewal struct {
	sent time.Duration
	seq  int64
	due  time.Duration // by when notifications up to seq should be here
}

// notified is called by pgx whenever it comes across a notification, also while it reads the answer of a statement.
func (s *session) notified(_ *pgconn.PgConn, n *pgconn.Notification) {
	s.inbox = append(s.inbox, n.Payload)
}

func (s *session) register(ctx context.Context) error {
	if err := s.within(ctx, func(ctx context.Context) error {
		_, err := s.conn.Exec(ctx, "LISTEN keymeter_invalidations")
		return err
	}); err != nil {
		return err
	}
	s.id = s.h.self + strings.ToLower(rand.Text())
	return s.restart(ctx, func(ctx context.Context) (int64, error) {
		return register(ctx, s.conn, s.id, s.h.self)
	})
}

// resync is for when notifications were missed.
func (s *session) resync(ctx context.Context) error {
	return s.restart(ctx, func(ctx context.Context) (int64, error) { return latest(ctx, s.conn) })
}

// restart forgets everything and starts to count from a number that was read before. In the other order an entry that is
// filled in between could be older than the number and would stay.
func (s *session) restart(ctx context.Context, read func(context.Context) (int64, error)) error {
	return s.within(ctx, func(ctx context.Context) error {
		seq, err := read(ctx)
		if err != nil {
			return err
		}
		s.h.cfg.OnReset()
		s.applied = seq
		return nil
	})
}

// run keeps the lease until the connection fails. Renewals go first, so no flood of notifications starves them.
func (s *session) run(ctx context.Context) error {
	for {
		if err := s.apply(ctx); err != nil {
			return err
		}
		var err error
		switch {
		case s.renewalDue():
			err = s.renew(ctx)
		case s.acked < s.applied:
			err = s.ack(ctx)
		default:
			err = s.await(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// apply forgets what the notifications name.
func (s *session) apply(ctx context.Context) error {
	for len(s.inbox) > 0 {
		payload := s.inbox[0]
		s.inbox = s.inbox[1:]
		number, target, _ := strings.Cut(payload, " ")
		seq, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err == nil && seq <= s.applied: // came while we started to count
		case err == nil && seq == s.applied+1:
			s.h.cfg.OnInvalidate(target)
			s.applied = seq
		default: // a gap, or nothing of ours
			if err := s.resync(ctx); err != nil {
				return err
			}
		}
	}
	if s.behind != nil && s.applied < s.behind.seq && s.h.now() >= s.behind.due {
		return s.resync(ctx) // the last notifications got lost, which leaves no gap to see
	}
	return nil
}

// renewalDue reports whether it is time, or whether one more statement confirms the renewal before it.
func (s *session) renewalDue() bool {
	return s.h.now() >= s.renewAt || s.behind != nil && s.applied >= s.behind.seq
}

// renew renews the lease. A lease stands on two facts: everything that was committed before the renewal was sent is
// forgotten, and our row says so. Without the second, somebody who waited in vain for that very acknowledgement may
// delete the row while the lease lasts, and the next one to wait would not see us.
func (s *session) renew(ctx context.Context) error {
	sent, applied := s.h.now(), s.applied
	s.renewAt = sent + s.h.cfg.RenewEvery
	var seq int64
	err := s.within(ctx, func(ctx context.Context) (err error) {
		seq, err = renew(ctx, s.conn, s.id, applied)
		return err
	})
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	s.acked = applied
	switch {
	case seq < applied:
		return fmt.Errorf("invalidations went back from %d to %d", applied, seq)
	case seq == applied:
		s.h.extend(sent)
		s.behind = nil
	case s.behind != nil && s.behind.seq <= applied:
		s.h.extend(s.behind.sent)
		s.behind = nil // not this one in its place: under a flood every statement would be a renewal
	case s.behind == nil:
		s.behind = &renewal{sent: sent, seq: seq, due: s.h.now() + s.h.cfg.RenewEvery}
	}
	return nil
}

// ack acknowledges all that was applied. It gives no lease.
func (s *session) ack(ctx context.Context) error {
	applied := s.applied
	err := s.within(ctx, func(ctx context.Context) error { return ack(ctx, s.conn, s.id, applied) })
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	s.acked = applied
	return nil
}

// await returns when a notification has come or there is something else to do.
func (s *session) await(ctx context.Context) error {
	if len(s.inbox) > 0 {
		return nil
	}
	until := s.renewAt
	if s.behind != nil {
		until = min(until, s.behind.due)
	}
	waiting, cancel := context.WithTimeout(ctx, max(0, until-s.h.now()))
	defer cancel()
	err := s.conn.PgConn().WaitForNotification(waiting)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && errors.Is(err, context.DeadlineExceeded) && !s.conn.IsClosed():
		return nil
	default:
		return err
	}
}

// within bounds a statement by the time after which its answer is of no use. A connection that hangs ends with it.
func (s *session) within(ctx context.Context, statement func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.h.cfg.LeaseTime)
	defer cancel()
	return statement(ctx)
}
