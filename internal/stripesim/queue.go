package stripesim

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// delivery is an event on its way to one receiver.
type delivery struct {
	Endpoint string // none is that of Config and SetWebhook
	Attempts int
	State    DeliveryState

	waiting bool // for its next attempt
	behind  bool // those after it may pass
}

// route gives a new event its deliveries.
func (s *Sim) route(ev *event) {
	receivers := []string{}
	if s.webhookURL != "" { // an endpoint gets nothing from before it was registered
		receivers = append(receivers, "")
	}
	for _, ep := range s.endpoints.items {
		if ep.wants(ev.Kind) {
			receivers = append(receivers, ep.ID)
		}
	}
	for _, to := range receivers {
		d := &delivery{Endpoint: to, State: Pending}
		ev.Deliveries = append(ev.Deliveries, d)
		fault, found := s.takeFault(ev.Kind, webhookFaults)
		if found {
			s.disturb(ev, d, fault)
		}
	}
}

// disturb does to a delivery what a test asked for.
func (s *Sim) disturb(ev *event, d *delivery, f Fault) {
	switch f.Kind {
	case DuplicateWebhook:
		ev.Deliveries = append(ev.Deliveries, &delivery{Endpoint: d.Endpoint, State: Pending})
	case DropWebhook:
		d.State = GivenUp
	default: // later, by a time or by the events that pass
		d.behind = true
		s.wait(d, f.Delay)
	}
}

// wait keeps a delivery from being tried for a while of real time. The caller
// holds mu.
func (s *Sim) wait(d *delivery, pause time.Duration) {
	d.waiting = true
	time.AfterFunc(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.waiting = false
		s.signal()
	})
}

// next is the first delivery that may be tried now. One that waits for another
// attempt holds up those behind it that go to the same receiver, and no others.
func (s *Sim) next() (*event, *delivery, <-chan struct{}) {
	settled, changed := s.progress()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return nil, nil, changed
	}
	busy := map[string]bool{}
	for _, ev := range s.events.items[settled:] {
		for _, d := range ev.Deliveries {
			if d.State != Pending || busy[d.Endpoint] {
				continue
			}
			// Attempts that cannot succeed would only use up the tries an event has.
			_, reachable := s.receiver(d.Endpoint)
			if !d.waiting && reachable {
				return ev, d, changed
			}
			busy[d.Endpoint] = !d.behind
		}
	}
	return nil, nil, changed
}

// receiver finds where a delivery goes.
func (s *Sim) receiver(id string) (endpoint, bool) {
	if id == "" {
		return endpoint{URL: s.webhookURL, Secret: s.webhookSecret}, s.webhookURL != ""
	}
	ep, ok := s.endpoints.get(id)
	if !ok {
		return endpoint{}, false
	}
	return *ep, true
}

// HoldDeliveries stops Run from sending anything, so that a test can send events
// itself, in an order of its own, with Deliver.
func (s *Sim) HoldDeliveries() { s.hold(true) }

// ReleaseDeliveries lets Run send again, beginning with what is pending.
func (s *Sim) ReleaseDeliveries() { s.hold(false) }

func (s *Sim) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	s.signal()
}

// Deliver sends events now, in the order given, each once to each of its
// receivers, also those that were delivered before. It goes on after a failure
// and returns all of them.
func (s *Sim) Deliver(ctx context.Context, ids ...string) error {
	var errs []error
	for _, id := range ids {
		ev, deliveries := s.deliveriesOf(id)
		if len(deliveries) == 0 {
			errs = append(errs, fmt.Errorf("stripesim: event %q has no receiver", id))
		}
		for _, d := range deliveries {
			if err := s.attempt(ctx, ev, d); err != nil {
				errs = append(errs, fmt.Errorf("stripesim: deliver %s: %w", id, err))
				continue
			}
			s.record(d, nil)
		}
	}
	return errors.Join(errs...)
}

func (s *Sim) deliveriesOf(id string) (*event, []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ev, ok := s.events.get(id)
	if !ok {
		return nil, nil
	}
	return ev, ev.Deliveries
}
