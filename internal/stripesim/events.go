package stripesim

import (
	"encoding/json"
	"reflect"
	"slices"
	"time"
)

// DeliveryState says what became of an event's webhook.
type DeliveryState string

const (
	// Pending events wait for their first or next attempt.
	Pending DeliveryState = "pending"
	// Delivered events were answered with a 2xx.
	Delivered DeliveryState = "delivered"
	// GivenUp events failed at every attempt.
	GivenUp DeliveryState = "given_up"
	// Skipped events were emitted while no receiver was configured.
	Skipped DeliveryState = "skipped"
)

// Event is what happened, as a test sees it.
type Event struct {
	ID       string
	Type     string
	Created  time.Time
	Attempts int
	State    DeliveryState
	// Payload is the body as it was or will be delivered.
	Payload json.RawMessage
}

type event struct {
	ID      string
	Kind    string
	Created time.Time
	// Data is encoded when it happens, so that what becomes of the object later
	// cannot change what was said of it.
	Data       json.RawMessage
	By         cause
	Deliveries []*delivery
}

func (ev *event) key() string { return ev.ID }

// emit records an event with a snapshot of its object and queues its delivery.
func (s *Sim) emit(by cause, kind string, snapshot, previous object) {
	data := object{"object": snapshot}
	if previous != nil {
		data["previous_attributes"] = previous
	}
	ev := &event{
		ID: s.ids.next("evt_1", 23), Kind: kind, Created: s.instant, By: by, Data: encode(data),
	}
	s.route(ev)
	s.events.add(ev)
	s.signal()
}

// emitUpdate emits an update unless nothing changed: Stripe sends no event for a
// request that sets what is set already.
func (s *Sim) emitUpdate(by cause, kind string, before, after object) {
	if previous := changed(before, after); len(previous) > 0 {
		s.emit(by, kind, after, previous)
	}
}

// changed is the old value of all that differs, as previous_attributes shows it:
// inside an object only what differs, but a list as a whole.
func changed(before, after object) object {
	out := object{}
	for name, old := range before {
		if reflect.DeepEqual(old, after[name]) {
			continue
		}
		inner, ok := old.(object)
		next, still := after[name].(object)
		if ok && still {
			out[name] = changed(inner, next)
			continue
		}
		out[name] = old
	}
	for name := range after {
		if _, was := before[name]; !was {
			out[name] = nil // a new metadata key was null before
		}
	}
	return out
}

// Events returns all events so far, oldest first.
func (s *Sim) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Event, 0, len(s.events.items))
	for _, ev := range s.events.items {
		out = append(out, Event{
			ID: ev.ID, Type: ev.Kind, Created: ev.Created, Attempts: ev.attempts(), State: ev.state(),
			Payload: ev.payload(s.version),
		})
	}
	return out
}

// retention is how long Stripe shows an event.
const retention = 30 * 24 * time.Hour

func (s *Sim) forgotten(ev *event) bool { return s.instant.Sub(ev.Created) > retention }

func (s *Sim) getEvent(c *call) (object, *apiError) {
	ev, ok := s.events.get(c.id)
	if !ok || s.forgotten(ev) {
		return nil, notFound("event", c.id)
	}
	return renderEvent(ev, s.version), nil
}

func (s *Sim) listEvents(c *call) (object, *apiError) {
	kinds := c.list("types")
	if one := c.str("type"); one != "" {
		kinds = append(kinds, one)
	}
	success, bySuccess := c.boolean("delivery_success")
	created := c.created()
	return c.page(s.events.newest(func(ev *event) bool {
		return !s.forgotten(ev) && created.has(ev.Created) && (len(kinds) == 0 || slices.ContainsFunc(kinds, ev.is)) &&
			(!bySuccess || success == ev.wasDelivered())
	}, func(ev *event) object { return renderEvent(ev, s.version) }))
}

// is compares with a type or a group of them, as in invoice.*.
func (ev *event) is(kind string) bool { return matches(kind, ev.Kind) }

// state is that of all deliveries together: the worst of them.
func (ev *event) state() DeliveryState {
	state := Skipped
	for _, d := range ev.Deliveries {
		switch {
		case d.State == Pending:
			return Pending
		case d.State == GivenUp, state == Skipped:
			state = d.State
		}
	}
	return state
}

func (ev *event) attempts() int {
	sum := 0
	for _, d := range ev.Deliveries {
		sum += d.Attempts
	}
	return sum
}

// wasDelivered counts an event that nobody was to receive as delivered, as
// Stripe does.
func (ev *event) wasDelivered() bool { return ev.state() == Delivered || ev.state() == Skipped }

// payload is the event as its receivers get it, at every attempt the same: with
// all deliveries pending.
func (ev *event) payload(version string) []byte {
	out := renderEvent(ev, version)
	out["pending_webhooks"] = len(ev.Deliveries)
	return encode(out)
}

func renderEvent(ev *event, version string) object {
	pending := 0
	for _, d := range ev.Deliveries {
		if d.State == Pending {
			pending++
		}
	}
	return object{
		"id": ev.ID, "object": "event", "api_version": version, "created": ev.Created.Unix(),
		"data": reshape(ev.Data, version), "livemode": false, "pending_webhooks": pending,
		"request": object{"id": orNull(ev.By.RequestID), "idempotency_key": orNull(ev.By.IdempotencyKey)}, "type": ev.Kind,
	}
}
