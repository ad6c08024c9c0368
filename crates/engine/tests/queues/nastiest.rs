//! The nastiest tests of the design that concern the queue's engine, by number.
