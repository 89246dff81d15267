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
	id       string
	kind     string
	created  time.Time
	data     object
	by       cause
	body     []byte
	attempts int
	state    DeliveryState
}

// emit records an event with a snapshot of its object and queues its delivery.
func (s *Sim) emit(by cause, kind string, snapshot, previous object) {
	ev := &event{
		id: s.ids.next("evt_1", 23), kind: kind, created: s.now().UTC(), by: by,
		data: object{"object": snapshot}, state: Pending,
	}
	if previous != nil {
		ev.data["previous_attributes"] = previous
	}
	if s.webhookURL == "" {
		ev.state = Skipped
	}
	ev.body = encode(renderEvent(ev))
	s.events.add(ev.id, ev)
	s.signal()
}

// emitUpdate emits an update unless nothing changed.
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
			ID: ev.id, Type: ev.kind, Created: ev.created, Attempts: ev.attempts, State: ev.state,
			Payload: slices.Clone(ev.body),
		})
	}
	return out
}

func (s *Sim) getEvent(c *call) (object, *apiError) {
	ev, ok := s.events.get(c.id)
	if !ok {
		return nil, notFound("event", c.id)
	}
	return renderEvent(ev), nil
}

func (s *Sim) listEvents(c *call) (object, *apiError) {
	kinds := c.list("types")
	if one := c.str("type"); one != "" {
		kinds = append(kinds, one)
	}
	success, bySuccess := c.boolean("delivery_success")
	const far = 1 << 40
	after := max(c.integer("created[gt]", -1, 0, far)+1, c.integer("created[gte]", 0, 0, far))
	before := min(c.integer("created[lt]", far, 0, far), c.integer("created[lte]", far-1, 0, far)+1)
	return c.page(s.events.newest(func(ev *event) bool {
		at := ev.created.Unix()
		return at >= after && at < before && (len(kinds) == 0 || slices.Contains(kinds, ev.kind)) &&
			(!bySuccess || success == ev.wasDelivered())
	}, renderEvent))
}

// wasDelivered counts an event that nobody was to receive as delivered, as
// Stripe does.
func (ev *event) wasDelivered() bool { return ev.state == Delivered || ev.state == Skipped }

func renderEvent(ev *event) object {
	pending := 0
	if ev.state == Pending {
		pending = 1
	}
	return object{
		"id": ev.id, "object": "event", "api_version": apiVersion, "created": ev.created.Unix(), "data": ev.data,
		"livemode": false, "pending_webhooks": pending,
		"request": object{"id": orNull(ev.by.requestID), "idempotency_key": orNull(ev.by.idempotencyKey)}, "type": ev.kind,
	}
}
