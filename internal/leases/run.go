package leases

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	connectTimeout = 2 * time.Second
	closeTimeout   = time.Second
	minBackoff     = 20 * time.Millisecond
	maxBackoff     = time.Second
)

// Run gets the lease and keeps it until ctx is done. It then gives the lease back and returns nil. While Postgres can't be
// reached there is no lease and Run tries again.
func (h *Holder) Run(ctx context.Context) error {
	config, err := h.connConfig()
	if err != nil {
		return err
	}
	backoff := minBackoff
	for {
		started := h.now()
		err := h.hold(ctx, config)
		h.lapse()
		h.cfg.OnReset()
		if ctx.Err() != nil {
			return h.leave(ctx)
		}
		if h.now()-started > h.cfg.LeaseTime {
			backoff = minBackoff // it had worked
		}
		h.cfg.Logger.Warn("no lease: answering from the database only", "replica", h.cfg.ID, "error", err)
		select {
		case <-ctx.Done():
			return h.leave(ctx)
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (h *Holder) connConfig() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(h.cfg.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse the database url: %w", err)
	}
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "keymeter lease " + h.cfg.ID
	return config, nil
}

// hold keeps the lease on one connection, until that fails.
func (h *Holder) hold(ctx context.Context, config *pgx.ConnConfig) error {
	s := &session{h: h}
	config = config.Copy()
	config.OnNotification = s.notified
	var err error
	if s.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.register(ctx); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	h.cfg.Logger.Info("registered for leases", "replica", s.id)
	return s.run(ctx)
}

// leave removes our row, so that nobody waits for us. The lease is over by now.
func (h *Holder) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.LeaseTime)
	defer cancel()
	if err := unregister(ctx, h.cfg.Pool, h.self); err != nil {
		// Not worth failing for: the next Wait deletes the row.
		h.cfg.Logger.Warn("the lease's row is left behind", "replica", h.cfg.ID, "error", err)
	}
	return nil
}

func (s *session) close(ctx context.Context) {
	// While it says goodbye, nobody may answer by a lease of this connection any more.
	s.h.lapse()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(closeTimeout, s.h.cfg.LeaseTime))
	defer cancel()
	if err := s.conn.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.h.cfg.Logger.Debug("close the lease's connection", "error", err)
	}
}
