"""The queue: names of queues and jobs, enqueueing, what each job does, retrying, and recovery from killed workers."""
