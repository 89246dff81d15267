package stripesim

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
)

// Versions at which the shape of what the simulator sends changed.
const (
	renamedFeatures = "2024-04-10"
	basil           = "2025-03-31"
)

// putsOffSince is the version since which Stripe has the parameter that puts a
// change of plan off. Portal configurations are the same in it otherwise.
const putsOffSince = "2024-10-28.acacia"

// sameIn says whether what is at a path has the same shape in another version.
func sameIn(version, path string) bool {
	return version == putsOffSince && strings.HasPrefix(path, "/v1/billing_portal/configurations")
}

var versionRE = regexp.MustCompile(`^20\d\d-\d\d-\d\d(\.[a-z]+)?$`)

func isVersion(v string) bool { return versionRE.MatchString(v) && v >= apiVersion }

// SetPayloadVersion makes events look as of another API version, as those of an
// account look whose default is another than the client's: webhooks without a
// version of their own, and the events of the API. Answers of the API otherwise
// stay as of 2023-10-16.
func (s *Sim) SetPayloadVersion(version string) error {
	if !isVersion(version) {
		return errors.New("stripesim: there is no API version " + version + " from " + apiVersion + " on")
	}
	return s.change(func() error {
		s.version = version
		return nil
	})
}

// reshape renders an event's data as of another version.
func reshape(data json.RawMessage, version string) any {
	if version < renamedFeatures {
		return data
	}
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		panic("stripesim: event data is not JSON: " + err.Error()) // it was encoded here
	}
	subject, _ := out["object"].(object)
	if previous, ok := out["previous_attributes"].(object); ok {
		dropMoved(previous, subject["object"], version)
	}
	renew(subject, version)
	return out
}

// renew changes an object and all in it.
func renew(v any, version string) {
	switch v := v.(type) {
	case []any:
		for _, inner := range v {
			renew(inner, version)
		}
	case object:
		for _, inner := range v {
			renew(inner, version)
		}
		if version >= basil {
			moveFields(v)
		}
		dropMoved(v, v["object"], version)
	}
}

// moved are the fields that 2025-03-31.basil took away.
func moved(kind any) []string {
	switch kind {
	case "subscription":
		return []string{"current_period_start", "current_period_end", "discount"}
	case "invoice":
		return []string{
			"application_fee_amount", "charge", "discount", "paid", "paid_out_of_band", "payment_intent", "quote",
			"subscription", "subscription_details", "tax", "total_tax_amounts", "transfer_data",
		}
	case "line_item":
		return []string{
			"amount_excluding_tax", "invoice_item", "price", "proration", "proration_details", "subscription_item",
			"tax_amounts", "tax_rates", "type", "unit_amount_excluding_tax",
		}
	case "invoiceitem":
		return []string{"price", "subscription", "subscription_item", "unit_amount", "unit_amount_decimal"}
	case "charge", "payment_intent":
		return []string{"invoice"}
	}
	return nil
}

func dropMoved(v object, kind any, version string) {
	if kind == "product" {
		delete(v, "features")
	}
	if version < basil {
		return
	}
	for _, name := range moved(kind) {
		delete(v, name)
	}
}

// moveFields puts what was moved where it is from basil on.
func moveFields(v object) {
	switch v["object"] {
	case "invoice":
		v["parent"] = invoiceParent(v)
	case "line_item":
		v["parent"], v["pricing"] = lineParent(v), pricing(v, v["unit_amount_excluding_tax"])
	case "invoiceitem":
		v["pricing"] = pricing(v, v["unit_amount_decimal"])
		if v["subscription"] != nil {
			v["parent"] = object{
				"type":                 "subscription_details",
				"subscription_details": withItem(object{"subscription": v["subscription"]}, v),
			}
		}
	}
}

func invoiceParent(v object) any {
	if v["subscription"] == nil {
		return nil
	}
	details, _ := v["subscription_details"].(object)
	return object{
		"type": "subscription_details", "quote_details": nil,
		"subscription_details": object{"subscription": v["subscription"], "metadata": details["metadata"]},
	}
}

func lineParent(v object) object {
	details := object{
		"proration": v["proration"], "proration_details": v["proration_details"], "subscription": v["subscription"],
	}
	if v["type"] == "subscription" {
		details["invoice_item"] = nil
		return object{
			"type": "subscription_item_details", "invoice_item_details": nil, "subscription_item_details": withItem(details, v),
		}
	}
	details["invoice_item"] = v["invoice_item"]
	return object{"type": "invoice_item_details", "invoice_item_details": details, "subscription_item_details": nil}
}

func withItem(details, v object) object {
	if item, ok := v["subscription_item"]; ok {
		details["subscription_item"] = item
	}
	return details
}

func pricing(v object, unit any) any {
	p, ok := v["price"].(object)
	if !ok {
		return nil
	}
	return object{
		"type": "price_details", "price_details": object{"price": p["id"], "product": p["product"]},
		"unit_amount_decimal": unit,
	}
}
