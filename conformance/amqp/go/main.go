// Conformance-amqp-go checks a broker of AMQP 0-9-1 through amqp091-go, in the
// style its users write: notification channels, deferred confirms, deliveries
// as a channel.
//
// Every check works on queues and exchanges of its own and leaves the server
// running. One line per check, then one with the totals; the exit code is 0
// only when every check passed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// checkTimeout bounds one check.
const checkTimeout = 45 * time.Second

// waitTimeout bounds one wait for something that must come.
const waitTimeout = 20 * time.Second

type check struct {
	name string
	run  func(e *env) error
}

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:5672", "address of the broker, `HOST:PORT`")
	peer := flag.String("peer", "millstream", "what answers there: rabbitmq or millstream")
	only := flag.String("only", "", "run only the checks whose name contains this")
	parallel := flag.Int("parallel", 4, "checks that run at the same time")
	flag.Parse()
	if *peer != "rabbitmq" && *peer != "millstream" {
		fmt.Fprintln(os.Stderr, "--peer must be rabbitmq or millstream")
		os.Exit(2)
	}
	var selected []check
	for _, group := range [][]check{declareChecks, confirmChecks, consumeChecks, deadLetterChecks, transactionChecks, closeChecks} {
		for _, c := range group {
			if strings.Contains(c.name, *only) {
				selected = append(selected, c)
			}
		}
	}
	if len(selected) == 0 {
		fmt.Fprintln(os.Stderr, "no check has a name containing", *only)
		os.Exit(2)
	}
	if runAll("amqp://guest:guest@"+*bootstrap+"/", selected, max(1, *parallel)) > 0 {
		os.Exit(1)
	}
}

// runAll runs the checks and returns how many failed.
func runAll(url string, checks []check, parallel int) (failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, c := range checks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := runOne(url, c)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				fmt.Printf("FAIL %s: %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", " | "))
				return
			}
			fmt.Println("ok", c.name)
		})
	}
	wg.Wait()
	fmt.Printf("%d passed, %d failed\n", len(checks)-failed, failed)
	return failed
}

// runOne runs a check; one that outlives its deadline is left behind and counted as failed.
func runOne(url string, c check) error {
	e := &env{url: url}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v: %s", p, debug.Stack())
			}
		}()
		done <- c.run(e)
	}()
	select {
	case err := <-done:
		e.close()
		return err
	case <-time.After(checkTimeout):
		return errors.New("still running after its deadline")
	}
}

// env is what a check is given to work with; what it opens is closed behind it.
type env struct {
	url    string
	opened []*amqp.Connection
	queues []string
}

func (e *env) connect() (*amqp.Connection, error) {
	c, err := amqp.Dial(e.url)
	if err == nil {
		e.opened = append(e.opened, c)
	}
	return c, err
}

// channel opens a channel on a connection of its own.
func (e *env) channel() (*amqp.Channel, error) {
	c, err := e.connect()
	if err != nil {
		return nil, err
	}
	return c.Channel()
}

// queue declares a durable queue of a new name, deleted behind the check.
func (e *env) queue(ch *amqp.Channel, prefix string, args amqp.Table) (string, error) {
	name := unique(prefix)
	_, err := ch.QueueDeclare(name, true, false, false, false, args)
	e.queues = append(e.queues, name)
	return name, err
}

func (e *env) close() {
	if c, err := amqp.Dial(e.url); err == nil {
		if ch, err := c.Channel(); err == nil {
			for _, q := range e.queues {
				_, _ = ch.QueueDelete(q, false, false, false)
			}
		}
		_ = c.Close()
	}
	for _, c := range e.opened {
		_ = c.Close()
	}
}
