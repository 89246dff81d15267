package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	memoryTarget = 400 // MB
	strangers    = 200_000
)

// memory measures a server that knows a million keys: after each was verified, and after more came than it has room for.
func (b *bench) memory(ctx context.Context) error {
	idle, err := b.server.rss()
	if err != nil {
		return err
	}
	if err := b.once(ctx, scaleKeys, func(n int) []byte { return post("/v1/keys/verify", serviceToken, verifyBody(n)) }); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	full, err := b.server.rss()
	if err != nil {
		return err
	}
	// Keys in the right form that were never made, each once.
	err = b.once(ctx, strangers, func(n int) []byte {
		return post("/v1/keys/verify", serviceToken, verifyBody(scaleKeys+n))
	})
	if err != nil {
		return fmt.Errorf("memory, unknown keys: %w", err)
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	flooded, err := b.server.rss()
	b.row("| memory of 1,000,000 cached keys | RSS %.0f MB, from %.0f MB; %.0f MB after %d unknown keys | | | RSS < %d MB, bounded |",
		full, idle, flooded, strangers, memoryTarget)
	return err
}

// once sends each of the requests once.
func (b *bench) once(ctx context.Context, requests int, of request) error {
	var next atomic.Int64
	var group sync.WaitGroup
	const connections = 64
	errs := make(chan error, connections)
	for range connections {
		group.Go(func() {
			c, err := dial(ctx, b.server.addr)
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = c.Close() }()
			for n := int(next.Add(1)) - 1; n < requests; n = int(next.Add(1)) - 1 {
				status, body, err := c.do(of(n))
				if err != nil || status != 200 {
					errs <- errors.Join(err, fmt.Errorf("%d %s", status, body))
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	return <-errs
}

// settled waits until the server's memory no longer changes much.
func (b *bench) settled(ctx context.Context) error {
	const still, limit = 5 * time.Second, time.Minute
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	since, last := time.Now(), 0.0
	for deadline := time.Now().Add(limit); time.Since(since) < still && time.Now().Before(deadline); {
		rss, err := b.server.rss()
		if err != nil {
			return err
		}
		if rss < last*0.99 || rss > last*1.01 {
			since, last = time.Now(), rss
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
