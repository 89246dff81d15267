package stripe

import (
	"encoding/json"
	"errors"
)

// eventTypes are the types of events after which what a customer has bought may have changed. Stripe's list of events
// takes 20 types at most.
var eventTypes = []string{
	"charge.dispute.closed",
	"charge.dispute.created",
	"charge.refund.updated",
	"charge.refunded",
	"checkout.session.async_payment_succeeded",
	"checkout.session.completed",
	"customer.deleted",
	"customer.subscription.created",
	"customer.subscription.deleted",
	"customer.subscription.paused",
	"customer.subscription.pending_update_applied",
	"customer.subscription.pending_update_expired",
	"customer.subscription.resumed",
	"customer.subscription.trial_will_end",
	"customer.subscription.updated",
	"invoice.created",
	"invoice.marked_uncollectible",
	"invoice.paid",
	"invoice.payment_failed",
	"invoice.voided",
}

// hint is all that is read of an event. These fields are the same in every version of Stripe's API.
type hint struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
	Object   object `json:"-"`
}

// object is what an event is about. What is not there, or of another kind than expected, is "".
type object struct {
	ID            ref `json:"id"`
	Object        ref `json:"object"`
	Customer      ref `json:"customer"`
	PaymentIntent ref `json:"payment_intent"`
	Charge        ref `json:"charge"`
}

func readHint(body []byte) (hint, error) {
	var h hint
	var about struct {
		Data struct {
			Object json.RawMessage `json:"object"`
		} `json:"data"`
	}
	if err := errors.Join(json.Unmarshal(body, &h), json.Unmarshal(body, &about)); err != nil {
		return hint{}, err
	}
	h.Object = readObject(about.Data.Object)
	return h, nil
}

func readObject(raw json.RawMessage) object {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return object{}
	}
	return o
}

// ref is an id, or what Stripe gives in its place: the object with that id, expanded.
type ref string

// UnmarshalJSON never fails: what is no reference is "".
func (r *ref) UnmarshalJSON(raw []byte) error {
	var expanded struct {
		ID string `json:"id"`
	}
	var id string
	if json.Unmarshal(raw, &id) != nil && json.Unmarshal(raw, &expanded) == nil {
		id = expanded.ID
	}
	*r = ref(id)
	return nil
}
