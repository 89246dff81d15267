package stripesim

import (
	"slices"
	"strings"
)

// expandable are the fields that hold an id which can be replaced by its object.
// Those of the last line are always null here, which Stripe accepts too.
var expandable = []string{
	"charge", "customer", "invoice", "latest_charge", "latest_invoice", "payment_intent", "product", "subscription",
	"default_payment_method", "default_price", "pending_setup_intent", "schedule", "setup_intent",
}

// maxExpandDepth is Stripe's limit; the "data" of a list counts as a level.
const maxExpandDepth = 4

// expand replaces ids in a freshly rendered response by the objects they name.
func (s *Sim) expand(obj object, paths []string) *apiError {
	for _, path := range paths {
		segments := strings.Split(path, ".")
		if len(segments) > maxExpandDepth {
			return invalid("expand", "You cannot expand more than 4 levels of a property. Property: "+path)
		}
		if err := s.expandPath(obj, segments, path); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sim) expandPath(node object, segments []string, path string) *apiError {
	field, rest := segments[0], segments[1:]
	value, present := node[field]
	if !present {
		value, present = s.include(node, field)
	}
	refused := invalid("expand", "This property cannot be expanded ("+path+").")
	// An event's data is a snapshot and stays as it was.
	if !present || node["object"] == "event" {
		return refused
	}
	id, isID := value.(string)
	if (isID || value == nil) && !slices.Contains(expandable, field) {
		return refused
	}
	if isID {
		found, known := s.find(id)
		if !known {
			return refused
		}
		value = found
	}
	node[field] = value

	var inner []object
	switch v := value.(type) {
	case nil:
		return nil // nothing there to expand
	case object:
		inner = []object{v}
	case []object:
		inner = v
	default:
		return refused
	}
	if len(rest) == 0 {
		return nil
	}
	for _, child := range inner {
		if err := s.expandPath(child, rest, path); err != nil {
			return err
		}
	}
	return nil
}

// include makes the fields that are left out unless asked for.
func (s *Sim) include(node object, field string) (any, bool) {
	id, _ := node["id"].(string)
	switch {
	case node["object"] == "checkout.session" && field == "line_items":
		cs, _ := s.sessions.get(id)
		return renderLineItems(cs), true
	case node["object"] == "customer" && field == "subscriptions":
		subs := s.subscriptions.newest(func(sub *subscription) bool {
			return sub.Customer == id && sub.Status == statusActive
		}, renderSubscription)
		return listOf("/v1/customers/"+id+"/subscriptions", subs...), true
	}
	return nil, false
}
