// Package plans is the catalogue: which tiers there are, what each includes, and what usage costs.
package plans

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Tier names a plan. The contract lists the tiers there are.
type Tier string

// The tiers. A catalogue describes each of them.
const (
	Free    Tier = "free"
	Starter Tier = "starter"
	Pro     Tier = "pro"
	Scale   Tier = "scale"
)

// Category is what credits are spent on. The contract lists the categories there are.
type Category string

// The categories. A catalogue prices each of them.
const (
	TTS Category = "tts"
	STT Category = "stt"
	LLM Category = "llm"
	RAG Category = "rag"
)

// Plan is what a tier includes.
type Plan struct {
	Tier            Tier
	Name            string
	MonthlyPrice    string // dollars, an exact decimal
	MonthlyCredits  int64
	OverageMicros   int64 // micro-dollars for each credit beyond what is granted; 0 if Capped
	Capped          bool  // the granted credits are a hard cap
	CarryoverMonths int
	StripeLookupKey string // "" for a tier that Stripe does not sell
}

// Display returns the plan for people to read, as in "Pro ($99/mo)".
func (p Plan) Display() string { return fmt.Sprintf("%s ($%s/mo)", p.Name, p.MonthlyPrice) }

// Catalogue is the tiers and prices. It does not change once it is loaded.
type Catalogue struct {
	Bridge Bridge
	Alerts []int16 // percent of a period's credits at which an alert is raised, rising
	plans  map[Tier]Plan
	prices map[Category]priceList
	grace  time.Duration
	topUp  *TopUpPrice
}

// Bridge is the advance on the monthly credits of a renewal that is not paid yet.
type Bridge struct {
	Percent int64         // of the monthly credits
	For     time.Duration // from the start of the period
}

type priceList struct {
	unit      int64
	providers map[string]rate
}

type rate struct{ input, output int64 } // credits a unit

// DefaultProvider is the provider of a category whose price is the same whoever provides it.
const DefaultProvider = "default"

// Plan returns a tier's plan. The tier is one that the contract lists.
func (c *Catalogue) Plan(t Tier) Plan { return c.plans[t] }

// Grace is how long a plan stays in force while the payment for it is overdue.
func (c *Catalogue) Grace() time.Duration { return c.grace }

// TopUpPrice is what credits cost that are bought beside a plan. They are sold by the thousand.
type TopUpPrice struct {
	CentsPerThousand       int64
	MinCredits, MaxCredits int64
}

// Cents returns what credits cost, which are whole thousands.
func (p TopUpPrice) Cents(credits int64) int64 { return credits / 1000 * p.CentsPerThousand }

// TopUp returns the price of a top-up. ok is false if none are sold.
func (c *Catalogue) TopUp() (price TopUpPrice, ok bool) {
	if c.topUp == nil {
		return TopUpPrice{}, false
	}
	return *c.topUp, true
}

// TierOf returns the tier that is sold at Stripe under a price's lookup key.
func (c *Catalogue) TierOf(lookupKey string) (Tier, bool) {
	for tier, plan := range c.plans {
		if plan.StripeLookupKey == lookupKey && lookupKey != "" {
			return tier, true
		}
	}
	return "", false
}

// Usage is a quantity to be priced. The unit of Quantity is the category's: characters, seconds of audio, input tokens,
// search queries. Output is output tokens.
type Usage struct {
	Category         Category
	Provider         string // "" is DefaultProvider
	Quantity, Output int64
}

// PriceError says why a usage has no price. Field is the contract's name of the part that is at fault.
type PriceError struct{ Field, Message string }

// Error makes PriceError an error.
func (e *PriceError) Error() string { return e.Field + " " + e.Message }

// Price returns what a usage costs in credits, rounded up to a whole credit once. Its error is a *PriceError.
func (c *Catalogue) Price(u Usage) (int64, error) {
	list := c.prices[u.Category]
	provider := u.Provider
	if provider == "" {
		provider = DefaultProvider
	}
	r, ok := list.providers[provider]
	switch {
	case !ok && u.Provider == "":
		return 0, &PriceError{"provider", "is needed to price this category"}
	case !ok:
		return 0, &PriceError{"provider", fmt.Sprintf("is not priced for %s in the catalogue", u.Category)}
	case u.Output != 0 && r.output == 0:
		return 0, &PriceError{"outputQuantity", fmt.Sprintf("is not priced for %s", u.Category)}
	}
	credits, ok := charge(u, r, list.unit)
	if !ok {
		return 0, &PriceError{"quantity", "is too large to be priced"}
	}
	return credits, nil
}

// charge computes (quantity*input + output*outputRate) / unit, rounded up, and whether that fits.
func charge(u Usage, r rate, unit int64) (int64, bool) {
	inHigh, inLow := bits.Mul64(uint64(u.Quantity), uint64(r.input))
	outHigh, outLow := bits.Mul64(uint64(u.Output), uint64(r.output))
	low, carry := bits.Add64(inLow, outLow, 0)
	high, _ := bits.Add64(inHigh, outHigh, carry)
	if high >= uint64(unit) {
		return 0, false
	}
	quotient, rest := bits.Div64(high, low, uint64(unit))
	if rest > 0 {
		quotient++
	}
	return int64(quotient), quotient <= math.MaxInt64/4
}
