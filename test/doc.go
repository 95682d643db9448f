// Package test holds the tests of whole clusters, and of the arrows between the
// packages. It has no code for others.
//
// # Labs
//
// A test makes a lab (package hosts): hosts that are network namespaces with a /run
// and a /var/lib of their own, joined by bridges to networks. Agents are real
// processes of the program, built once per run of the tests, and tests speak to
// them as people do, by its commands; what these print and how they exit is the
// contract that is tested.
//
// Namespaces have no names: each lives as long as a process of the test that
// keeps it, and that ends when the test does, however it ends. Nothing of the
// machine is changed, so that tests run beside each other and beside an agent
// that the machine has.
//
// Labs need Linux, root and ip; single tests need more. A test says aloud what
// it lacks and skips; with SCAGENT_TEST_NO_SKIP=1 it fails.
//
// # Attackers
//
// An attacker is the test program itself, started again on a host of the lab with
// orders in its environment (attack_test.go). It does what they say for a bounded
// time and at bounded rates, says what it did, and ends by itself; what it got to
// read is kept for the test. There is a file for each way in. Pools are attacked for
// ten seconds, or for a minute with SCAGENT_TEST_LONG=1.
//
// # Time
//
// Nothing sleeps for something to have happened: tests wait for lines that
// agents print, for commands to end, or ask again until a deadline. Times that
// the contract promises are measured and logged.
package test
