package stripesim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// Stripe tries for three days. Nobody waits that long to see an event given
	// up; about two minutes are enough to restart a receiver.
	maxAttempts  = 10
	firstBackoff = 200 * time.Millisecond // doubles with each attempt
	clockTick    = time.Second
)

// Run delivers events, one at a time and to each receiver in order, and acts on the clock until
// ctx is done. Nothing is delivered while it does not run. What was not
// delivered stays queued for the next Run.
func (s *Sim) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	defer s.stop()
	tick := time.NewTicker(clockTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		ev, d, changed := s.next()
		if d != nil {
			s.deliver(ctx, ev, d)
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-tick.C:
			s.Advance()
		}
	}
	return nil
}

// WaitDelivered returns when every event emitted before the call has been
// delivered, given up or skipped. It needs Run to be running.
func (s *Sim) WaitDelivered(ctx context.Context) error {
	s.mu.Lock()
	target := len(s.events.items)
	s.mu.Unlock()
	for {
		settled, changed := s.progress()
		if settled >= target {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stripesim: %d of %d events settled: %w", settled, target, ctx.Err())
		case <-changed:
		}
	}
}

func (s *Sim) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return errors.New("stripesim: already running")
	}
	s.running = true
	return nil
}

func (s *Sim) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
}

// signal wakes Run and everyone in WaitDelivered. The caller holds mu.
func (s *Sim) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// progress counts the settled events at the head of the queue.
func (s *Sim) progress() (settled int, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.settled < len(s.events.items) && s.events.items[s.settled].state() != Pending {
		s.settled++
	}
	return s.settled, s.changed
}

// deliver tries a delivery once.
func (s *Sim) deliver(ctx context.Context, ev *event, d *delivery) {
	err := s.attempt(ctx, ev, d)
	if err != nil && ctx.Err() != nil {
		return // a shutdown says nothing about the receiver
	}
	switch attempt, state := s.record(d, err); state {
	case GivenUp:
		s.log.Error("stripe simulator gave up on an event", "event", ev.ID, "type", ev.Kind, "attempts", attempt, "error", err)
	case Pending:
		s.log.Warn("stripe simulator will retry an event", "event", ev.ID, "type", ev.Kind, "attempt", attempt, "error", err)
	case Delivered, Skipped:
	}
}

// record keeps the outcome of an attempt. A process killed between the
// receiver's 2xx and this delivers again: webhooks come at least once, here as
// from Stripe.
func (s *Sim) record(d *delivery, failure error) (attempts int, state DeliveryState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Attempts++
	switch {
	case failure == nil:
		d.State = Delivered
	case d.Attempts >= maxAttempts:
		d.State = GivenUp
	default:
		s.wait(d, firstBackoff<<(d.Attempts-1))
	}
	_ = s.save() // it logs a failure, and the next save tries again
	s.signal()
	return d.Attempts, d.State
}

// attempt sends the event once, freshly signed, and reads the receiver's verdict.
func (s *Sim) attempt(ctx context.Context, ev *event, d *delivery) error {
	s.mu.Lock()
	to, _ := s.receiver(d.Endpoint)
	body := ev.payload(firstOf(to.Version, s.version))
	s.mu.Unlock()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Stripe-Signature", sign(to.Secret, s.now(), body))
	req.Header.Set("User-Agent", "stripesim/1.0")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)) // so that the connection is reused
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("receiver answered %d", resp.StatusCode)
	}
	return nil
}

// sign makes the Stripe-Signature header. The time is signed as well, so that a
// receiver can refuse an old delivery that somebody sends again; each attempt
// therefore has its own signature over the same body.
func sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%s.%s", t, body) // a hash never fails to write
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// webhookClient copies the given client, because redirects must not be followed:
// to Stripe a redirect is a failed delivery.
func webhookClient(given *http.Client) *http.Client {
	c := http.Client{Timeout: 10 * time.Second}
	if given != nil {
		c = *given
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}
