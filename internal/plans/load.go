package plans

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

//go:embed catalogue.yaml
var embedded []byte

// Load reads a catalogue from a file, or the one that is part of the binary if path is "".
func Load(path string) (*Catalogue, error) {
	if path == "" {
		return Parse(embedded)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("plan catalogue: %w", err)
	}
	return Parse(source)
}

// Parse reads a catalogue. It is refused whole if anything in it is missing, unknown or out of range.
func Parse(source []byte) (*Catalogue, error) {
	var f file
	if err := decode(source, &f); err != nil {
		return nil, fmt.Errorf("plan catalogue: %w", err)
	}
	c := &Catalogue{plans: map[Tier]Plan{}, prices: map[Category]priceList{}}
	err := errors.Join(c.addTiers(f.Tiers), c.addBridge(f.Bridge), c.addAlerts(f.Alerts), c.addPrices(f.Prices),
		c.setGrace(f.GraceDays), c.setTopUp(f.TopUp))
	if err != nil {
		return nil, fmt.Errorf("plan catalogue: %w", err)
	}
	return c, nil
}

// decode goes through JSON, whose decoder does not round a fraction where a whole number is wanted.
func decode(source []byte, into *file) error {
	parsed, err := parser.ParseBytes(source, 0)
	if err != nil {
		return err
	}
	if len(parsed.Docs) != 1 {
		return errors.New("there must be one document")
	}
	encoded, err := yaml.YAMLToJSON(source)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

type file struct {
	Bridge    bridgeEntry             `json:"bridge"`
	Alerts    []int16                 `json:"alerts"`
	Tiers     []tierEntry             `json:"tiers"`
	Prices    map[Category]priceEntry `json:"prices"`
	GraceDays *int                    `json:"graceDays"`
	TopUp     *topUpEntry             `json:"topUp"`
}

type topUpEntry struct {
	PricePerThousandCredits string `json:"pricePerThousandCredits"`
	MinCredits              int64  `json:"minCredits"`
	MaxCredits              int64  `json:"maxCredits"`
}

func (c *Catalogue) addBridge(e bridgeEntry) error {
	if e.Percent < 0 || e.Percent > 100 || e.Hours < 0 || e.Hours > 28*24 {
		return errors.New("bridge must be of 0 to 100 percent for at most 28 days")
	}
	c.Bridge = Bridge{Percent: e.Percent, For: time.Duration(e.Hours) * time.Hour}
	return nil
}

func (c *Catalogue) addAlerts(percents []int16) error {
	for i, p := range percents {
		if p < 1 || p > 1000 || i > 0 && p <= percents[i-1] {
			return errors.New("alerts must be rising percentages between 1 and 1000")
		}
	}
	c.Alerts = percents
	return nil
}

type bridgeEntry struct {
	Percent int64 `json:"percent"`
	Hours   int64 `json:"hours"`
}

type tierEntry struct {
	Tier            Tier   `json:"tier"`
	Name            string `json:"name"`
	MonthlyPrice    string `json:"monthlyPrice"`
	MonthlyCredits  int64  `json:"monthlyCredits"`
	OverageRate     string `json:"overageRate"`
	CarryoverMonths int    `json:"carryoverMonths"`
	StripeLookupKey string `json:"stripeLookupKey"`
}

type priceEntry struct {
	Unit      int64                `json:"unit"`
	Providers map[string]rateEntry `json:"providers"`
}

type rateEntry struct {
	Input  int64 `json:"input"`
	Output int64 `json:"output"`
}

func (c *Catalogue) addTiers(entries []tierEntry) error {
	for _, e := range entries {
		plan, err := e.plan()
		if err != nil {
			return fmt.Errorf("tier %q: %w", e.Tier, err)
		}
		if _, twice := c.plans[e.Tier]; twice {
			return fmt.Errorf("tier %q is there twice", e.Tier)
		}
		if _, twice := c.TierOf(e.StripeLookupKey); twice {
			return fmt.Errorf("stripeLookupKey %q is there twice", e.StripeLookupKey)
		}
		c.plans[e.Tier] = plan
	}
	for _, tier := range []Tier{Free, Starter, Pro, Scale} {
		plan, ok := c.plans[tier]
		switch {
		case !ok:
			return fmt.Errorf("tier %q is missing", tier)
		case tier == Free && !plan.Capped:
			return errors.New("the free tier can't have an overageRate: nobody would pay it")
		case tier != Free && plan.StripeLookupKey == "":
			return fmt.Errorf("tier %q needs a stripeLookupKey", tier)
		}
	}
	if len(c.plans) != 4 {
		return errors.New("the tiers are free, starter, pro and scale")
	}
	return nil
}

var decimal = regexp.MustCompile(`^[0-9]+([.][0-9]+)?$`)

func (e tierEntry) plan() (Plan, error) {
	switch {
	case e.Name == "":
		return Plan{}, errors.New("name is missing")
	case !decimal.MatchString(e.MonthlyPrice):
		return Plan{}, fmt.Errorf("monthlyPrice %q is not an amount of dollars", e.MonthlyPrice)
	case e.MonthlyCredits <= 0 || e.MonthlyCredits > 1e15:
		return Plan{}, errors.New("monthlyCredits must be between 1 and 10^15")
	case e.CarryoverMonths < 0 || e.CarryoverMonths > 120:
		return Plan{}, errors.New("carryoverMonths must be between 0 and 120")
	}
	micros, err := overageMicros(e.OverageRate)
	return Plan{
		Tier: e.Tier, Name: e.Name, MonthlyPrice: e.MonthlyPrice, MonthlyCredits: e.MonthlyCredits,
		OverageMicros: micros, Capped: e.OverageRate == "", CarryoverMonths: e.CarryoverMonths,
		StripeLookupKey: e.StripeLookupKey,
	}, err
}

// overageMicros reads dollars a credit as micro-dollars.
func overageMicros(dollars string) (int64, error) {
	if dollars == "" {
		return 0, nil
	}
	micros, ok := parts(dollars, 1_000_000)
	if !ok {
		return 0, fmt.Errorf("overageRate %q is not a positive, whole number of micro-dollars", dollars)
	}
	return micros, nil
}

// parts reads dollars as a number of their parts, which must be whole, positive and 10^9 at most.
func parts(dollars string, each int64) (n int64, ok bool) {
	r, ok := new(big.Rat).SetString(dollars)
	if !ok || !decimal.MatchString(dollars) {
		return 0, false
	}
	r.Mul(r, big.NewRat(each, 1))
	if !r.IsInt() || !r.Num().IsInt64() || r.Sign() <= 0 || r.Num().Int64() > 1_000_000_000 {
		return 0, false
	}
	return r.Num().Int64(), true
}

// mostCents is the largest amount that Stripe takes at once.
const mostCents = 99_999_999

func (c *Catalogue) setTopUp(e *topUpEntry) error {
	if e == nil {
		return nil
	}
	cents, ok := parts(e.PricePerThousandCredits, 100)
	switch {
	case !ok:
		return fmt.Errorf("topUp: pricePerThousandCredits %q is not a positive, whole number of cents", e.PricePerThousandCredits)
	case e.MinCredits <= 0 || e.MinCredits%1000 != 0 || e.MaxCredits%1000 != 0 || e.MinCredits > e.MaxCredits:
		return errors.New("topUp: minCredits and maxCredits must be positive multiples of 1000, in this order")
	case e.MaxCredits/1000 > mostCents/cents:
		return errors.New("topUp: maxCredits costs more than $999,999.99")
	}
	c.topUp = &TopUpPrice{CentsPerThousand: cents, MinCredits: e.MinCredits, MaxCredits: e.MaxCredits}
	return nil
}

func (c *Catalogue) addPrices(entries map[Category]priceEntry) error {
	for _, category := range []Category{TTS, STT, LLM, RAG} {
		e, ok := entries[category]
		if !ok || len(e.Providers) == 0 {
			return fmt.Errorf("prices for %q are missing", category)
		}
		if e.Unit <= 0 {
			return fmt.Errorf("prices for %q: unit must be positive", category)
		}
		list := priceList{unit: e.Unit, providers: map[string]rate{}}
		for name, r := range e.Providers {
			if r.Input < 0 || r.Output < 0 || max(r.Input, r.Output) > 1e9 {
				return fmt.Errorf("price of %s/%s must be between 0 and 10^9", category, name)
			}
			list.providers[name] = rate{input: r.Input, output: r.Output}
		}
		c.prices[category] = list
	}
	if len(entries) != len(c.prices) {
		return errors.New("the categories are tts, stt, llm and rag")
	}
	return nil
}

const defaultGraceDays = 7

func (c *Catalogue) setGrace(days *int) error {
	if days == nil {
		c.grace = defaultGraceDays * 24 * time.Hour
		return nil
	}
	if *days < 0 || *days > 90 {
		return errors.New("graceDays must be between 0 and 90")
	}
	c.grace = time.Duration(*days) * 24 * time.Hour
	return nil
}
